"""The scheduler's firmware: C sources, and their build for a system (:func:`reluctant.firmware.build.build`)."""
