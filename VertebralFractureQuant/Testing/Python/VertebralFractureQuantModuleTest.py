"""What Slicer's CTest runs: the module as a packaged Slicer has it, found by name, and then its self test."""

import unittest

import slicer

from VertebralFractureQuant import VertebralFractureQuantTest


class VertebralFractureQuantModuleTest(unittest.TestCase):
    """The module is registered under its name, and its self test passes by the entry that Slicer's button calls."""

    def test_the_module_is_there_with_title_icon_and_category(self):
        """Without a widget, as `--no-main-window` has it."""
        module = slicer.modules.vertebralfracturequant
        self.assertTrue(module.title)
        self.assertIn("Quantification", list(module.categories))
        self.assertFalse(module.icon.isNull())

    def test_the_self_test_passes(self):
        """As "Reload and Test" and the Self Tests module run it."""
        slicer.mrmlScene.Clear(0)
        VertebralFractureQuantTest().runTest()


# unittest collects every TestCase of this file's namespace: the imported one has just been run.
def load_tests(loader, tests, pattern):
    """The tests of this file alone."""
    return loader.loadTestsFromTestCase(VertebralFractureQuantModuleTest)
