"""The rules of election and delivery, as pure functions: the manual is docs/protocol.md, under the same names.

Standard library only. Nothing here reads, writes, sends or looks at a clock: `now` is an argument, in Unix
milliseconds like every time. ● marks a rule that breaks a promise when the obvious variant replaces it.
"""
