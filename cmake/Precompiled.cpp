// Carries the precompiled header that every compiler library reuses.
