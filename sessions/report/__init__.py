"""A session as a page, as Markdown and as a picture, to hand to somebody who was not there."""
