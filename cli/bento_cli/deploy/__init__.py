"""Bento + configuration file → a running deployment.

desired: what should run, a `spec`      plan: what is to be done, by `rollout`s of services
changes: doing it at a `target`         revisions: what was done, kept
deployment: all of it for one name      compose, entry: one Docker Engine, entered through HAProxy
"""
