"""The reading-study kit: what an expert sees of each encoder's maps, blinded, and what the answers say.

design    who sees what: cases, arms, controls, repeats, order; pure functions of a seed
cases     test images of a task with the maps of every run and of the controls
pack      one self-contained HTML page for each reader, and the sealed key
answers   a reader's file: read, checked, flagged
analysis  agreement, strengths, means, with the case as the unit of every interval
report    the same in words, and the figure
simulate  readers whose preference is known: does the analysis find it, and how many would be needed
"""
