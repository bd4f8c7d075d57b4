"""The account table: from any source, through the data contract, to the matrix that is scored."""
