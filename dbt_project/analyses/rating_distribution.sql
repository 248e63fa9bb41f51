-- How are the stars distributed?
select
    rating,
    count(*) as ratings,
    round(count(*) / sum(count(*)) over (), 4) as share
from {{ ref('fct_ratings') }}
where edition != 'streaming'
group by rating
order by rating
