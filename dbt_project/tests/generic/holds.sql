{#- The rule holds for every row; a rule that yields NULL is broken. -#}
{% test holds(model, rule, column_name=none) %}

select *
from {{ model }}
where ({{ rule }}) is not true

{% endtest %}
