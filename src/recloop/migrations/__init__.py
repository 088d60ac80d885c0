"""How the database's tables came to be what they are: one file a revision in `versions/`, applied with Alembic.

A change to a table is a change to where the table is declared, and a new file there; a test holds the two together.
"""
