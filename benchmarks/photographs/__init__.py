"""A search among photographs against a plain script and a hand-picked student."""
