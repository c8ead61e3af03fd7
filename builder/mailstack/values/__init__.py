"""The field's own kinds of value: names, mailboxes, networks, servers, records, numbers.

Each parser takes one token as a person typed it and returns its one canonical form, or raises ValueError with the
remedy. The token itself and the variable are added by whoever knows them (mailstack.settings).
"""
