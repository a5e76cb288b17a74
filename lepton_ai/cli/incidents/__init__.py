"""`lepton incidents report`: a page about one incident."""
