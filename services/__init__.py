"""The processes of the platform; each package holds pure modules, `app.py` (wiring) and `__main__.py`."""
