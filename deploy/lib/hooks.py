"""What deploy/hostile changes about the requests that schemathesis makes."""

import schemathesis


def whole(value):
    """Returns the value with 7 for 7.0. JSON Schema calls both an integer; to the API only the former is one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole(one) for one in value]
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    return value


@schemathesis.hook
def map_body(context, body):
    return whole(body)
