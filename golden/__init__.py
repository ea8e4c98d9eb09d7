"""The specification: number formats, float reference, bit-exact integer model, traces.

Importing this package imports neither torch nor numpy, so that the generator can share its number formats.
"""
