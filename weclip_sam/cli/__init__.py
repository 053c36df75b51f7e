"""What is called from a command line, a module for each command.

``weclip-sam NAME`` (:mod:`weclip_sam.cli.main`) finds every module here that has a function ``main``; its docstring's
first words are what ``weclip-sam --help`` says of it. In a checkout ``tools/*.py`` are doors to the same.
"""
