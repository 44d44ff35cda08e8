"""Video: readers of temporal grounding and video question answering data, and drawn clips with exact answers.

- `grounding.py`  Charades-STA, ActivityNet Captions, QVHighlights
- `questions.py`  CLEVRER, NExT-QA, NExT-GQA, STAR
- `mixtures.py`   SEED-Bench-R1, Video-R1
- `clips.py` `render.py` `ask.py` `build.py`   what happens in a clip, how it looks, what is asked, the data sets
- `transforms.py` question-answer inversion, letter shuffling, noise on frames
"""
