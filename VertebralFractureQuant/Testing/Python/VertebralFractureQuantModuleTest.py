"""The test that Slicer's CTest runs: a packaged Slicer finds the module by its name, and its self test passes."""

import unittest

import slicer

from VertebralFractureQuant import VertebralFractureQuantTest


class VertebralFractureQuantModuleTest(unittest.TestCase):
    """The module is registered under its name, and its self test passes as Slicer's button calls it."""

    def test_the_module_is_there_with_title_icon_and_category(self):
        """This needs no widget, as under `--no-main-window`."""
        module = slicer.modules.vertebralfracturequant
        self.assertTrue(module.title)
        self.assertIn("Quantification", list(module.categories))
        self.assertFalse(module.icon.isNull())

    def test_the_self_test_passes(self):
        """As "Reload and Test" and the Self Tests module run it."""
        slicer.mrmlScene.Clear(0)
        VertebralFractureQuantTest().runTest()


# unittest would collect every TestCase in this file's namespace, also the imported one, which the test above runs.
def load_tests(loader, tests, pattern):
    """Return the tests of this file alone."""
    return loader.loadTestsFromTestCase(VertebralFractureQuantModuleTest)
