"""What operators ask and do: functions on the ledger, the files and what they are handed; doors only call them."""
