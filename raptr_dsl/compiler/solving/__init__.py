"""Holes (rule 40) and the smallest edit that meets a refuted requirement.

Values are tried by the ordinary passes, on the syntax tree with the values in place of the holes, so that the solver
cannot disagree with the compiler. Nothing here is imported unless a file has a hole or a refuted requirement.
"""
