"""Pictures with captions that are true of them: one or two plain shapes on a plain background.

`scenes.py` says what is in a picture and in a caption, and when one is true of the other; `render.py` paints,
`build.py` makes data sets. Small enough to train a text-to-image model on in minutes.
"""
