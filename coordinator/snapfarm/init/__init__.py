"""`farm init`: looks at a project without importing any of it, and writes a configuration.

facts.py     what was found, as data
survey.py    walks over the project's files, and finds it
syntax.py    what a Python file says of databases: its syntax is read, nothing runs
choice.py    pure: which golden database that makes, and why
writing.py   the text of the configuration, and where it goes
"""
