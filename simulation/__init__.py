"""The product's own cores over in-memory logs and a virtual clock, searched with seeded schedules (DESIGN section 7).

    python -m simulation --first 0 --count 2000             search; prints each seed that breaks a promise
    python -m simulation --seed 17 --trace                  one seed, step by step
    python -m simulation --count 500 --without seals        a rule taken away: the search must find the harm

Where to extend it: `schedule` says how hard a seed is (its fields are the disturbances), `clients` what people do,
`instances` what befalls the services, `invariants` and `rest` what must hold, `rules` what may be taken away.
`stage` is the quiet counterpart for tests of one rule.
"""
