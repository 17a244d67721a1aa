"""The API without HTTP: commands change something, queries read, views turn what they found into JSON."""
