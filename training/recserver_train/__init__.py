"""Trains retrieval towers, an HSTU and a DCN-V2 from an interaction log and writes a RecServer model bundle.
"""
