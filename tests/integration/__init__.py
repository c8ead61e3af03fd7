import pytest

# Its assertions say what they compared, as those of a test file do.
pytest.register_assert_rewrite("integration.dmarc_mail")
