;; The household rules of ALFWorld for the scenes that we generate ourselves, in our own words: only the actions that a
;; game really offers. Predicate and action names are an interface: grammars and engines refer to them.
(define (domain alfred)
  (:requirements :adl :typing)
  (:types agent location receptacle object rtype otype)
  (:predicates
    ;; where things are
    (atLocation ?a - agent ?l - location)
    (receptacleAtLocation ?r - receptacle ?l - location)
    (objectAtLocation ?o - object ?l - location)
    (inReceptacle ?o - object ?r - receptacle)
    (inReceptacleObject ?inner - object ?outer - object)
    (holds ?a - agent ?o - object)
    (holdsAny ?a - agent)
    ;; what things are
    (receptacleType ?r - receptacle ?t - rtype)
    (objectType ?o - object ?t - otype)
    (canContain ?rt - rtype ?ot - otype)
    (openable ?r - receptacle)
    (isReceptacleObject ?o - object)
    (pickupable ?o - object)
    (cleanable ?o - object)
    (heatable ?o - object)
    (coolable ?o - object)
    (sliceable ?o - object)
    (toggleable ?o - object)
    ;; what was done to them
    (opened ?r - receptacle)
    (isClean ?o - object)
    (isHot ?o - object)
    (isCool ?o - object)
    (isSliced ?o - object)
    (isToggled ?o - object)
    (checked ?x)
  )

  (:action look
    :parameters (?a - agent ?l - location)
    :precondition (and (atLocation ?a ?l))
    :effect (and (checked ?l))
  )

  (:action inventory
    :parameters (?a - agent)
    :precondition ()
    :effect (and (checked ?a))
  )

  (:action help
    :parameters (?a - agent)
    :precondition ()
    :effect (and (checked ?a))
  )

  (:action examineReceptacle
    :parameters (?a - agent ?r - receptacle)
    :precondition (and (exists (?l - location) (and (atLocation ?a ?l) (receptacleAtLocation ?r ?l))))
    :effect (and (checked ?r))
  )

  (:action examineObject
    :parameters (?a - agent ?o - object)
    ;; In hand only: that is what the official games come down to in the official engine.
    :precondition (and (holds ?a ?o))
    :effect (and (checked ?o))
  )

  (:action GotoLocation
    :parameters (?a - agent ?lStart - location ?lEnd - location ?r - receptacle)
    :precondition (and (atLocation ?a ?lStart) (receptacleAtLocation ?r ?lEnd))
    :effect (and (not (atLocation ?a ?lStart)) (atLocation ?a ?lEnd))
  )

  (:action OpenObject
    :parameters (?a - agent ?l - location ?r - receptacle)
    :precondition (and (openable ?r) (not (opened ?r)) (atLocation ?a ?l) (receptacleAtLocation ?r ?l))
    :effect (and (opened ?r) (checked ?r))
  )

  (:action CloseObject
    :parameters (?a - agent ?l - location ?r - receptacle)
    :precondition (and (openable ?r) (opened ?r) (atLocation ?a ?l) (receptacleAtLocation ?r ?l))
    :effect (and (not (opened ?r)))
  )

  (:action PickupObject
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition
      (and
        (pickupable ?o) (not (holdsAny ?a)) (inReceptacle ?o ?r)
        (atLocation ?a ?l) (receptacleAtLocation ?r ?l)
        (or (opened ?r) (not (openable ?r)))
      )
    :effect (and (holds ?a ?o) (holdsAny ?a) (not (inReceptacle ?o ?r)) (not (objectAtLocation ?o ?l)))
  )

  (:action PutObject
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle ?ot - otype ?rt - rtype)
    :precondition
      (and
        (holds ?a ?o) (objectType ?o ?ot) (receptacleType ?r ?rt) (canContain ?rt ?ot)
        (atLocation ?a ?l) (receptacleAtLocation ?r ?l)
        (or (opened ?r) (not (openable ?r)))
      )
    :effect (and (inReceptacle ?o ?r) (objectAtLocation ?o ?l) (not (holds ?a ?o)) (not (holdsAny ?a)))
  )

  (:action CleanObject
    :parameters (?a - agent ?l - location ?r - receptacle ?o - object)
    :precondition
      (and
        (cleanable ?o) (holds ?a ?o) (receptacleType ?r SinkBasinType)
        (atLocation ?a ?l) (receptacleAtLocation ?r ?l)
      )
    :effect (and (isClean ?o))
  )

  (:action HeatObject
    :parameters (?a - agent ?l - location ?r - receptacle ?o - object)
    :precondition
      (and
        (heatable ?o) (holds ?a ?o) (receptacleType ?r MicrowaveType)
        (atLocation ?a ?l) (receptacleAtLocation ?r ?l)
      )
    :effect (and (isHot ?o) (not (isCool ?o)))
  )

  (:action CoolObject
    :parameters (?a - agent ?l - location ?r - receptacle ?o - object)
    :precondition
      (and
        (coolable ?o) (holds ?a ?o) (receptacleType ?r FridgeType)
        (atLocation ?a ?l) (receptacleAtLocation ?r ?l)
      )
    :effect (and (isCool ?o) (not (isHot ?o)))
  )

  (:action ToggleObject
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition
      (and (toggleable ?o) (inReceptacle ?o ?r) (atLocation ?a ?l) (receptacleAtLocation ?r ?l))
    :effect (and (isToggled ?o))
  )

  (:action SliceObject
    :parameters (?a - agent ?l - location ?co - object ?ko - object)
    :precondition
      (and
        (sliceable ?co) (or (objectType ?ko KnifeType) (objectType ?ko ButterKnifeType)) (holds ?a ?ko)
        (atLocation ?a ?l) (objectAtLocation ?co ?l)
      )
    :effect (and (isSliced ?co))
  )
)
