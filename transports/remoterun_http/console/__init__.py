"""The page for people: sign-in, templates, and what a browser loads."""
