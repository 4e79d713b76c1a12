"""`farm doctor`: whether a machine and a project are fit for a farm, before anything runs.

facts.py     what is known: of the machine, of the project
machine.py   reads the machine
project.py   reads the project; imports and runs nothing of it
checks.py    the judgement: facts in, findings out
"""
