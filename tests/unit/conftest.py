"""Property tests draw the same examples in every run, so that a red run says something about the change."""

import hypothesis

hypothesis.settings.register_profile("mailstack", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("mailstack")
