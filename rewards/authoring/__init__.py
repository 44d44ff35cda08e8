"""Tools for authors of rewards, behind `mmrl rewards new | check | replay | list | show`. How they are used, one after
the other: docs/rewards_tutorial.md.

    template.py   a commented reward with its test, to start from (`templates/`)
    check.py      tries a reward out; battery.py says on what, samples.py makes targets, findings.py judges
    hostile.py    completions that break rewards; an author's own tests can use them
    replay.py     scores the completions of a stored run again, which stored.py reads
    show.py       what rewards there are
"""
