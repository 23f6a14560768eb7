"""Students: networks trained from scratch on distilled images and tested on real ones."""
