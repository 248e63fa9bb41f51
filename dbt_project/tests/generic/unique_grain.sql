{#- One row for each combination of the columns, and none of them NULL: the grain of a model, read in one pass. -#}
{% test unique_grain(model, columns, column_name=none) %}

select {{ columns | join(', ') }}
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1 {%- for column in columns %} or {{ column }} is null {%- endfor %}

{% endtest %}
