"""The pool in front of other packages' objects. Each module needs its package, and nothing else imports it."""
