"""The product's own cores over in-memory logs and a virtual clock, searched with seeded schedules (docs/hand-over.md).

    python -m simulation --count 2000 --jobs 2              search fresh seeds; prints each one that breaks a promise
    python -m simulation --first 0 --count 2000             these seeds
    python -m simulation --seed 17 --trace                  one seed, step by step
    python -m simulation --count 500 --without seals        a rule taken away: the search must find the harm
    python -m simulation --count 10000 --coverage           branches that no schedule took, pairs of events

Where to extend it: `schedule` says how hard a seed is (its fields are the disturbances), `kinds` and `swarm` draw it,
`clients` is what people do, `instances` what befalls the services, `compaction` what befalls the logs; `witness`,
`invariants`, `rest` and, from outside, `outsider` say what must hold, `rules` what may be taken away. `stage` is the
quiet counterpart for tests of one rule.
"""
