"""Signals: what AWS itself says about an endpoint. These modules are pure; `link.signaller` hears, looks and tells."""
