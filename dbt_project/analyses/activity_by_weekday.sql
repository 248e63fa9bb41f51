-- On which days of the week do people rate?
select
    isodow(rated_at) as weekday,
    dayname(rated_at) as name,
    count(*) as ratings,
    round(count(*) / sum(count(*)) over (), 4) as share
from {{ ref('fct_ratings') }}
where edition != 'streaming'
group by weekday, name
order by weekday
