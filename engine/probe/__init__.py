"""Probes: how good are the frozen features of an encoder?"""
