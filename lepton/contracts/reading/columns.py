"""The Arrow types of what a field's values are stored as, and of the column that says which were changed."""

import pyarrow as pa

FIELD_TYPES: dict[str, pa.DataType] = {
    "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "category": pa.string(), "text": pa.string(),
    "vector": pa.list_(pa.float32()), "sequence": pa.list_(pa.float64()), "image": pa.binary(),
    "timestamp": pa.timestamp("us", tz="UTC")}
REPAIRS_TYPE: pa.DataType = pa.list_(pa.struct([("field", pa.int16()), ("what", pa.string()), ("before", pa.string())]))
