"""A plugin for tests of contracts: adaptors of each shape, a codec of batches, an executor."""
