"""Tables of the ALFWorld domain: kinds, properties, what may hold what, and where things usually are.

`CAN_CONTAIN` and the property sets are the domain's facts (type names as in its PDDL files, without "Type").
`RATE[object][receptacle]` is how many objects of a kind stood in one receptacle of a kind, in percent, over a third of
the official training games (rounded): a prior for where to put things and where to look for them.
"""

from __future__ import annotations

from collections.abc import Mapping


def _words(table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(text.split()) for key, text in table.items()}


def _rates(table: Mapping[str, str]) -> dict[str, dict[str, int]]:
    return {
        key: {name: int(rate) for name, rate in (pair.split(":") for pair in text.split())}
        for key, text in table.items()
    }


OPENABLE = frozenset(["Cabinet", "Drawer", "Fridge", "Microwave", "Safe"])
VESSELS = frozenset(["Bowl", "Box", "Cup", "Mug", "Pan", "Plate", "Pot"])
CLEANABLE = frozenset(
    [
        "Apple",
        "Bowl",
        "ButterKnife",
        "Cloth",
        "Cup",
        "DishSponge",
        "Egg",
        "Fork",
        "Kettle",
        "Knife",
        "Ladle",
        "Lettuce",
        "Mug",
        "Pan",
        "Plate",
        "Pot",
        "Potato",
        "SoapBar",
        "Spatula",
        "Spoon",
        "Tomato",
    ]
)
HEATABLE = frozenset(["Apple", "Bread", "Cup", "Egg", "Mug", "Plate", "Potato", "Tomato"])
COOLABLE = frozenset(
    ["Apple", "Bowl", "Bread", "Cup", "Egg", "Lettuce", "Mug", "Pan", "Plate", "Pot", "Potato", "Tomato", "WineBottle"]
)
SLICEABLE = frozenset(["Apple", "Bread", "Egg", "Lettuce", "Potato", "Tomato"])
KNIVES = frozenset(["Knife", "ButterKnife"])
LAMPS = frozenset(["DeskLamp", "FloorLamp"])
# Things in a receptacle that cannot be picked up.
FIXED = LAMPS | frozenset(
    [
        "HousePlant",
        "Television",
        "Mirror",
        "Painting",
        "Window",
        "Sink",
        "ShowerGlass",
        "Bathtub",
        "Poster",
        "Blinds",
        "Curtains",
        "Chair",
    ]
)
TOOL = {"clean": "SinkBasin", "heat": "Microwave", "cool": "Fridge"}
STATE_OF = {"clean": CLEANABLE, "heat": HEATABLE, "cool": COOLABLE}

CAN_CONTAIN: dict[str, tuple[str, ...]] = _words(
    {
        "ArmChair": "Book Box CellPhone Cloth CreditCard KeyChain Laptop Newspaper Pillow RemoteControl",
        "BathtubBasin": "Cloth DishSponge HandTowel SoapBar",
        "Bed": "BaseballBat BasketBall Book CellPhone Laptop Pillow TennisRacket",
        "Cabinet": (
            "Book Bowl Box CD Candle Cloth Cup DishSponge Glassbottle HandTowel Kettle Ladle Mug Newspaper "
            "Pan PepperShaker Plate Plunger Pot SaltShaker SoapBar SoapBottle SprayBottle TissueBox "
            "ToiletPaper Vase WateringCan WineBottle"
        ),
        "Cart": ("Candle Cloth DishSponge HandTowel Plunger SoapBar SoapBottle SprayBottle TissueBox ToiletPaper"),
        "CoffeeMachine": "Mug",
        "CoffeeTable": (
            "Book Bowl Box Candle CellPhone CreditCard KeyChain Laptop Newspaper Pen Pencil Plate "
            "RemoteControl Statue TissueBox Vase Watch WateringCan"
        ),
        "CounterTop": (
            "AlarmClock Apple Book Bowl Bread ButterKnife CD Candle CellPhone Cloth CreditCard Cup "
            "DishSponge Egg Fork Glassbottle HandTowel Kettle KeyChain Knife Ladle Laptop Lettuce Mug Pan "
            "Pen Pencil PepperShaker Plate Pot Potato RemoteControl SaltShaker SoapBar SoapBottle Spatula "
            "Spoon SprayBottle Statue TissueBox ToiletPaper Tomato Vase WineBottle"
        ),
        "Desk": (
            "AlarmClock BasketBall Book Bowl Box CD CellPhone Cloth CreditCard KeyChain Laptop Mug Pen "
            "Pencil RemoteControl Statue TennisRacket TissueBox Vase Watch WateringCan"
        ),
        "DiningTable": (
            "AlarmClock Apple BaseballBat BasketBall Book Bowl Box Bread ButterKnife CD Candle CellPhone "
            "Cloth CreditCard Cup DishSponge Egg Fork Glassbottle Kettle KeyChain Knife Ladle Laptop "
            "Lettuce Mug Newspaper Pan Pen Pencil PepperShaker Plate Pot Potato RemoteControl SaltShaker "
            "SoapBottle Spatula Spoon SprayBottle Statue TennisRacket TissueBox Tomato Vase Watch "
            "WateringCan WineBottle"
        ),
        "Drawer": (
            "Book ButterKnife CD Candle CellPhone Cloth CreditCard DishSponge Fork HandTowel KeyChain "
            "Knife Ladle Newspaper Pen Pencil PepperShaker RemoteControl SaltShaker SoapBar SoapBottle "
            "Spatula Spoon SprayBottle TissueBox ToiletPaper Watch WateringCan"
        ),
        "Dresser": (
            "AlarmClock BasketBall Book Bowl Box CD Candle CellPhone Cloth CreditCard KeyChain Laptop Mug "
            "Newspaper Pen Pencil Plate RemoteControl SprayBottle Statue TennisRacket TissueBox "
            "ToiletPaper Vase Watch WateringCan"
        ),
        "Fridge": "Apple Bowl Bread Cup Egg Glassbottle Lettuce Mug Pan Plate Pot Potato Tomato WineBottle",
        "GarbageCan": (
            "Apple Bread CD Cloth DishSponge Egg HandTowel Lettuce Newspaper Pen Pencil Potato SoapBar "
            "SoapBottle SprayBottle TissueBox ToiletPaper Tomato WineBottle"
        ),
        "HandTowelHolder": "HandTowel",
        "LaundryHamper": "Cloth",
        "Microwave": "Apple Bowl Bread Cup Egg Glassbottle Mug Plate Potato Tomato",
        "Ottoman": "Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pillow RemoteControl",
        "Safe": "CD CellPhone CreditCard KeyChain Statue Vase",
        "Shelf": (
            "AlarmClock Book Bowl Box CD Candle CellPhone Cloth CreditCard Cup DishSponge Glassbottle "
            "HandTowel Kettle KeyChain Mug Newspaper Pen Pencil PepperShaker Plate Pot RemoteControl "
            "SaltShaker SoapBar SoapBottle SprayBottle Statue TissueBox ToiletPaper Vase Watch WateringCan "
            "WineBottle"
        ),
        "SideTable": (
            "AlarmClock Apple BaseballBat BasketBall Book Bowl Box Bread ButterKnife CD Candle CellPhone "
            "Cloth CreditCard Cup DishSponge Egg Fork HandTowel Kettle KeyChain Knife Laptop Lettuce Mug "
            "Newspaper Pan Pen Pencil PepperShaker Plate Pot Potato RemoteControl SaltShaker SoapBar "
            "SoapBottle Spatula Spoon SprayBottle Statue TennisRacket TissueBox ToiletPaper Tomato Vase "
            "Watch WateringCan WineBottle"
        ),
        "SinkBasin": (
            "Apple Bowl ButterKnife Cloth Cup DishSponge Egg Fork Glassbottle HandTowel Kettle Knife Ladle "
            "Lettuce Mug Pan Plate Pot Potato SoapBar Spatula Spoon Tomato"
        ),
        "Sofa": "Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pillow RemoteControl",
        "StoveBurner": "Kettle Pan Pot",
        "TVStand": "TissueBox",
        "Toilet": "Candle Cloth DishSponge HandTowel SoapBar SoapBottle SprayBottle TissueBox ToiletPaper",
        "ToiletPaperHanger": "ToiletPaper",
        "TowelHolder": "Towel",
    }
)

RATE: dict[str, dict[str, int]] = _rates(
    {
        "AlarmClock": "CounterTop:100 DiningTable:100 Desk:80 Dresser:55 SideTable:45 Shelf:10",
        "Apple": "Fridge:50 DiningTable:35 SideTable:30 GarbageCan:25 Microwave:25 CounterTop:20 SinkBasin:20",
        "Book": (
            "Bed:85 CoffeeTable:70 Desk:40 CounterTop:40 DiningTable:35 Sofa:25 Dresser:20 ArmChair:15 "
            "TVStand:15 SideTable:5 Cabinet:4 Drawer:3 Shelf:1"
        ),
        "Bowl": (
            "Desk:90 CoffeeTable:50 TVStand:45 Fridge:40 DiningTable:40 Dresser:35 CounterTop:20 Shelf:10 "
            "SideTable:5 SinkBasin:5 Cabinet:5 Microwave:5"
        ),
        "Box": (
            "DiningTable:65 Desk:50 CoffeeTable:35 Sofa:30 Ottoman:10 Dresser:5 Shelf:5 SideTable:5 "
            "TVStand:5 Cabinet:4 ArmChair:3"
        ),
        "Bread": "DiningTable:65 CounterTop:40 Fridge:20 SideTable:10 GarbageCan:1 Microwave:1",
        "ButterKnife": "DiningTable:60 CounterTop:45 SideTable:35 SinkBasin:10 Drawer:2",
        "CD": (
            "DiningTable:95 Dresser:55 Desk:50 SideTable:30 GarbageCan:15 ArmChair:15 Cabinet:10 Drawer:10 "
            "Shelf:5 Safe:3"
        ),
        "Candle": (
            "CoffeeTable:70 Toilet:60 SideTable:60 CounterTop:55 Cart:40 Dresser:35 DiningTable:35 "
            "Shelf:25 TVStand:15 Cabinet:10 Drawer:10"
        ),
        "CellPhone": (
            "Bed:55 Desk:50 Ottoman:50 DiningTable:45 Dresser:40 Safe:35 Sofa:30 CoffeeTable:30 "
            "CounterTop:25 SideTable:20 ArmChair:15 Drawer:5 Shelf:5"
        ),
        "Cloth": (
            "BathtubBasin:90 Dresser:40 CounterTop:35 Cart:30 Cabinet:20 Shelf:20 Drawer:10 SinkBasin:10 "
            "SideTable:10 Toilet:5"
        ),
        "CreditCard": (
            "TVStand:50 Desk:45 Dresser:40 DiningTable:40 CounterTop:35 Sofa:35 CoffeeTable:25 "
            "SideTable:25 ArmChair:25 Ottoman:15 Shelf:10 Drawer:10"
        ),
        "Cup": ("Fridge:45 DiningTable:40 SideTable:35 CounterTop:20 SinkBasin:15 Microwave:10 Shelf:5 Cabinet:3"),
        "DishSponge": (
            "BathtubBasin:50 DiningTable:35 CounterTop:20 Cart:20 SinkBasin:15 Toilet:15 Shelf:10 "
            "SideTable:10 GarbageCan:10 Drawer:10 Cabinet:4"
        ),
        "Egg": "Fridge:50 DiningTable:30 SideTable:30 SinkBasin:25 GarbageCan:25 Microwave:25 CounterTop:20",
        "Fork": "DiningTable:60 CounterTop:40 SideTable:20 SinkBasin:15 Drawer:10",
        "Glassbottle": "DiningTable:40 Fridge:25 CounterTop:20 SinkBasin:15 GarbageCan:15 Shelf:5 Cabinet:4",
        "HandTowel": "HandTowelHolder:80",
        "Kettle": "DiningTable:25 StoveBurner:20 CounterTop:15 SinkBasin:3 Cabinet:3 Shelf:1",
        "KeyChain": (
            "Desk:45 Safe:45 Dresser:45 CoffeeTable:40 DiningTable:40 SideTable:25 TVStand:20 Sofa:15 "
            "Ottoman:10 Shelf:10 ArmChair:10 Drawer:5"
        ),
        "Knife": "DiningTable:65 CounterTop:40 SideTable:10 SinkBasin:10 Drawer:5 CoffeeMachine:1",
        "Ladle": "DiningTable:65 CounterTop:35 Drawer:4 Cabinet:4 SinkBasin:4",
        "Laptop": (
            "Bed:105 CounterTop:65 DiningTable:45 Desk:35 CoffeeTable:30 Ottoman:30 Sofa:25 TVStand:20 "
            "Dresser:15 ArmChair:5 SideTable:4"
        ),
        "Lettuce": "DiningTable:65 Fridge:45 SideTable:40 CounterTop:30 SinkBasin:10 GarbageCan:2",
        "Mug": (
            "Desk:95 Dresser:55 CoffeeMachine:35 Fridge:35 SideTable:30 DiningTable:25 Microwave:15 "
            "CounterTop:15 SinkBasin:15 Shelf:5 Cabinet:3"
        ),
        "Newspaper": (
            "DiningTable:55 Dresser:40 Ottoman:40 CoffeeTable:40 Sofa:30 SideTable:15 Shelf:10 ArmChair:10 "
            "TVStand:5 Drawer:1"
        ),
        "Pan": "CounterTop:25 StoveBurner:15 DiningTable:10 Fridge:5 Cabinet:1",
        "PaperTowelRoll": "Toilet:45 DiningTable:40 Cart:35 CounterTop:20 SideTable:15 GarbageCan:15 Shelf:10",
        "Pen": (
            "DiningTable:115 Desk:75 Dresser:60 CoffeeTable:55 SideTable:35 CounterTop:30 TVStand:25 "
            "Shelf:10 Drawer:5 GarbageCan:4"
        ),
        "Pencil": (
            "DiningTable:65 Desk:60 CoffeeTable:60 Dresser:50 SideTable:40 CounterTop:25 Shelf:10 "
            "GarbageCan:10 Drawer:5"
        ),
        "PepperShaker": "DiningTable:45 SideTable:40 CounterTop:30 Shelf:10 Drawer:5 Cabinet:5",
        "Pillow": "Bed:150 Sofa:80 ArmChair:10",
        "Plate": (
            "DiningTable:45 CoffeeTable:35 CounterTop:25 Fridge:15 Dresser:10 SideTable:10 Cabinet:5 "
            "Shelf:5 SinkBasin:3 Microwave:1"
        ),
        "Pot": "StoveBurner:25 CounterTop:10 DiningTable:10 Fridge:5 SinkBasin:1 Shelf:1 Cabinet:1",
        "Potato": "Fridge:55 DiningTable:45 CounterTop:25 SideTable:20 Microwave:20 SinkBasin:20 GarbageCan:10",
        "RemoteControl": (
            "CounterTop:65 Desk:50 CoffeeTable:45 TVStand:45 DiningTable:40 Dresser:35 Sofa:30 Ottoman:30 "
            "SideTable:20 ArmChair:10 Drawer:5 Shelf:3"
        ),
        "SaltShaker": "DiningTable:45 SideTable:45 CounterTop:25 Shelf:10 Drawer:5 Cabinet:5",
        "SoapBar": (
            "SideTable:75 CounterTop:40 Toilet:30 BathtubBasin:30 SinkBasin:25 Cart:20 Shelf:15 "
            "GarbageCan:10 Cabinet:10 Drawer:10"
        ),
        "SoapBottle": (
            "DiningTable:55 Dresser:45 Toilet:45 SideTable:35 CounterTop:30 Cart:25 GarbageCan:20 Shelf:20 "
            "Cabinet:5 Drawer:1"
        ),
        "Spatula": "DiningTable:60 CounterTop:35 SideTable:20 SinkBasin:15 Drawer:5 StoveBurner:1",
        "Spoon": "DiningTable:55 CounterTop:35 SideTable:35 SinkBasin:20 Drawer:10",
        "SprayBottle": (
            "SideTable:100 Cart:85 Toilet:55 DiningTable:55 Dresser:50 CounterTop:50 Shelf:25 GarbageCan:20 Cabinet:10"
        ),
        "Statue": ("Desk:75 DiningTable:75 CoffeeTable:55 TVStand:40 Dresser:40 CounterTop:35 SideTable:25 Shelf:20"),
        "TeddyBear": "Bed:80",
        "TissueBox": (
            "CoffeeTable:90 Desk:85 CounterTop:80 DiningTable:55 Cart:40 TVStand:40 Dresser:25 Shelf:25 "
            "SideTable:20 Cabinet:5 Toilet:5 Drawer:5 GarbageCan:1"
        ),
        "ToiletPaper": (
            "SideTable:50 CounterTop:45 Toilet:45 Dresser:40 Shelf:25 Cart:20 GarbageCan:20 "
            "ToiletPaperHanger:20 Cabinet:10 Drawer:10 BathtubBasin:1"
        ),
        "Tomato": "Fridge:70 DiningTable:50 SideTable:30 CounterTop:25 GarbageCan:15 SinkBasin:10",
        "Towel": "TowelHolder:90",
        "Vase": (
            "Dresser:95 CoffeeTable:55 Desk:55 DiningTable:50 CounterTop:30 Shelf:25 SideTable:25 TVStand:25 Cabinet:5"
        ),
        "Watch": "DiningTable:60 TVStand:55 Dresser:55 CoffeeTable:40 SideTable:20 Desk:20 Drawer:10 Shelf:5",
        "WateringCan": "CoffeeTable:90 Shelf:15 SideTable:10",
        "WineBottle": "DiningTable:60 CounterTop:35 GarbageCan:20 Shelf:5 SideTable:5 Cabinet:4 Fridge:4",
    }
)

# room: receptacles that every scene of the room has (alternatives joined by "|").
CORE = _words(
    {
        "kitchen": "CounterTop|CounterTop|DiningTable Fridge Microwave SinkBasin",
        "living": "Sofa CoffeeTable|SideTable|DiningTable SideTable|Dresser|Desk",
        "bedroom": "Bed Desk|SideTable|Dresser Drawer|Shelf|Desk",
        "bathroom": "SinkBasin Toilet CounterTop|Cabinet",
    }
)
# room: further receptacles, as kind:weight:most.
EXTRA = _words(
    {
        "kitchen": (
            "Cabinet:5:14 Drawer:4:9 StoveBurner:2:4 CounterTop:1:3 DiningTable:1:2 GarbageCan:1:1 "
            "CoffeeMachine:1.5:1 Toaster:.3:1 Shelf:.8:3 SideTable:.6:1"
        ),
        "living": (
            "Drawer:3:6 Shelf:2:6 SideTable:1.5:3 ArmChair:1.5:2 Sofa:.5:2 CoffeeTable:1:2 GarbageCan:1:1 "
            "Cabinet:1:4 DiningTable:1:1 Dresser:1:1 TVStand:.7:1 Ottoman:.7:1 Desk:.4:1"
        ),
        "bedroom": (
            "Drawer:3:8 Shelf:2:6 Bed:.3:2 GarbageCan:1:1 SideTable:1:2 Desk:1:2 Dresser:.8:1 Cabinet:.6:3 "
            "ArmChair:.6:2 LaundryHamper:.4:1 Safe:.6:1 DiningTable:.3:1"
        ),
        "bathroom": (
            "Drawer:2:6 Cabinet:3:6 HandTowelHolder:.7:2 SinkBasin:.5:2 TowelHolder:.7:2 CounterTop:.6:1 "
            "GarbageCan:1:1 ToiletPaperHanger:1:1 BathtubBasin:1:1 Shelf:1:3 Cart:.6:1 SideTable:.5:1 Dresser:.3:1"
        ),
    }
)
# room: objects, as kind:weight.
OBJECTS = _words(
    {
        "kitchen": (
            "PepperShaker:2 DishSponge:2 Egg:2 Tomato:2 Apple:2 SoapBottle:2 Potato:2 SaltShaker:2 Spoon:2 Fork:2 "
            "Bowl:2 Cup:2 Mug:2 Knife:2 Spatula:2 Plate:2 Lettuce:2 ButterKnife:2 Bread:1.5 Pot:1.5 Pan:1.5 "
            "Kettle:1 WineBottle:1 Ladle:.7 Glassbottle:.5 Vase:.4 Statue:.3 CellPhone:.2 CreditCard:.2 Book:.2"
        ),
        "living": (
            "Statue:2 CreditCard:2 RemoteControl:2 KeyChain:1.5 Vase:1.4 Laptop:1.3 Box:1.2 Newspaper:1.3 Pillow:1 "
            "Watch:1.2 TissueBox:.7 Plate:.5 Book:.5 CellPhone:.5 Pen:.4 Pencil:.4 Candle:.3 Bowl:.2 WateringCan:.2"
        ),
        "bedroom": (
            "Pen:2 CellPhone:2 CreditCard:2 Pencil:2 KeyChain:2 Book:2 CD:2 AlarmClock:2 Pillow:1.5 Laptop:1.5 "
            "Mug:1 Bowl:.6 TissueBox:.3 TeddyBear:.3 Statue:.3 RemoteControl:.3 Watch:.3 Vase:.2 Box:.2"
        ),
        "bathroom": (
            "SprayBottle:2 ToiletPaper:2 Cloth:2 SoapBar:2 SoapBottle:2 Candle:2 HandTowel:1 Towel:.7 TissueBox:.6 "
            "DishSponge:.6"
        ),
    }
)
LAMP_PLACES = ("SideTable", "Desk", "Dresser", "Shelf", "CoffeeTable")
# Kinds with several members that are often reached from one spot.
STACKED = frozenset(["Cabinet", "Drawer", "StoveBurner", "Shelf"])
CAPACITY = {
    "CoffeeMachine": 1, "Toaster": 1, "StoveBurner": 1, "Microwave": 1, "HandTowelHolder": 1, "TowelHolder": 1,
    "ToiletPaperHanger": 1, "SinkBasin": 2, "Drawer": 2, "Cabinet": 2, "Safe": 2, "GarbageCan": 2, "ArmChair": 2,
}  # fmt: skip
