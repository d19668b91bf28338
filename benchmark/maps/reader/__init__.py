"""The reading-study kit: what an expert sees of each encoder's maps, blinded, and what the answers say.

design    who sees what: cases, arms, controls, repeats, order; pure functions of a seed
pack      one self-contained HTML page for each reader, and the sealed key
answers   a reader's file: read, checked, flagged
analyse   agreement, strengths, controls, with the case as the unit of every interval
simulate  readers whose preference is known: does the analysis find it, and how many would be needed
"""
