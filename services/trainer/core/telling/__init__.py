"""How a judgement is told to people: sentences, tables and pictures, in one bundle. Only a run's process comes here."""
