"""The peers' side of `make bench-training`: RecTools and RePlay, each learning SASRec with its own trainer.

They run in an environment of their own (requirements.txt), and import nothing of the project.
"""
