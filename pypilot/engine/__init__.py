"""The engine: turns deltas into worlds, worlds into resources through the memo, and tells streams when to look.

The only room with state that outlives a call. It knows no protocol and no Envoy message.
"""
