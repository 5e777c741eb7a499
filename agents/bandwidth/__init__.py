"""Who gets how much of a disk and a link when they are short: policies that set shares of bandwidth and no memory."""
