"""Pure: the policy's schema, its evaluation, and wave planning. Imports domain only."""
