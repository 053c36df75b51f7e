"""Several methods on one data set, on equal terms: stages that resume, results, one report."""
