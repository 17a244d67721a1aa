"""The API without HTTP: commands change something, queries look, views say how a thing is shown as JSON."""
