"""`mmrl reproduce`: the claims of papers on models that fit two CPU cores, with plain GRPO beside them.

experiment.py   configs/reproduce/NAME.yaml, read and checked: claim, preparation, arms, measures, what is expected
commands.py     `mmrl` command lines as processes: kept when they are done, continued when they were killed
running.py      an experiment's commands in order, several at a time; its numbers in results.json
measures.py     one number per run, from its metrics or its evaluation
statistics.py   means, intervals and verdicts over seeds
plotting.py     a picture per experiment · page.py: docs/reproduce.md, from results.json alone
"""
