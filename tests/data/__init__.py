"""Tests of nas_kd.data."""
