"""Where configuration comes from. Every source gives `Update`s: a delta for the world and all problems it knows of.

Nothing here compiles, knows Envoy, or decides what a wrong object means beyond "keep what was good".
"""
