"""The hospital side, a folder for each question.

`door`: where does a signed call come in? `review`: where is it judged? `vault`: where do rows lie? `engine`: where does
training happen? `ledger`: where is the charge written? `actions` is what an owner can do, by `console` or `cli`.
"""
